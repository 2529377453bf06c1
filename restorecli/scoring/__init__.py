"""How good results are: pairs, protocols, scores, gates, and pictures side by side."""
