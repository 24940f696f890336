"""The command line: parse and print. It decides nothing that the other rooms could decide."""
