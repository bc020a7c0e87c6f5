-- One change's rows in the trail.
CREATE INDEX audit_generation ON audit(generation);
