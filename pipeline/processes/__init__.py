"""What every process of Oddwatch does to itself before it works."""
