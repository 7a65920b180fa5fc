"""The APIs of other products, so that their clients need another address only."""
