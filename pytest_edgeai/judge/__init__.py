"""Pure decisions: from measured records to verdicts, without I/O, framework or pytest."""
