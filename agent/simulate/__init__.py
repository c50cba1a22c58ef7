"""A neighbourhood under simulated physics: the agents' own plan beside no control, droop alone, and perfect foresight."""
