"""`framework doctor`: is this machine, or this cluster, ready to train? Each answer with advice in words."""
