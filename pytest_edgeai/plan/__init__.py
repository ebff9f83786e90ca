"""Choose, before anything runs, which candidates a session makes and why."""
