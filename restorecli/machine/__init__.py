"""What this machine is: its cores, its heap, and the versions of what runs on it. No torch here."""
