"""A Restormer on this machine becomes a GLMHA-Restormer."""
