"""What this project costs on this machine, each cost beside the least it could be."""
