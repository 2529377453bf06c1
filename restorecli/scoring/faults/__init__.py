"""What is wrong with a single picture, without a clean one to compare with."""
