"""One node of the grid: its records, its net, its price, and the shells around them."""
