"""Where messages travel and how they are encoded: plain data, no client of Kafka and no Faust."""
