"""The only room that loops, waits, spawns or calls the user's functions: one agent per file."""
