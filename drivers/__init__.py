"""Meters and outputs: registers become readings here. Imports nothing of the agent."""
