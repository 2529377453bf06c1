"""What is to be done, and doing it: in this process, or on Ray."""
