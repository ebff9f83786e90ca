"""Run each framework in a process, and an interpreter, of its own."""
