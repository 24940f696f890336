"""What serves the tests of programs that use flowgen."""
