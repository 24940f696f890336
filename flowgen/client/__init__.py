"""What a user's program acts on runs with: one description of each operation, a sync and an async caller of it."""
