"""Kills workers and the server at random, and compares what they leave with what should be there."""
