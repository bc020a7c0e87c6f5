-- Who set the same before, and which changes are undoings: looked up for each row of a change that is undone.
CREATE INDEX audit_subject ON audit(subject, action);
CREATE INDEX audit_undo ON audit(generation) WHERE action = 'undo';
