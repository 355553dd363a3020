"""Processes: RQ workers that place calls, listeners that follow them, and what starts them."""
