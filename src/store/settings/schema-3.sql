-- Who set the same before: looked up for each row of a change that is undone.
CREATE INDEX audit_subject ON audit(subject, action);
