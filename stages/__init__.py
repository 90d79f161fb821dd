"""What is done to messages: decoding, features, temporal models, alerting. Arrays in, arrays out; no Redis."""
