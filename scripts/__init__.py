"""For developers: benchmarks, simulation, experiments. They drive the product; nothing imports them."""
