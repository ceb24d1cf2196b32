"""How figures went over the saved runs: series, lasting changes, and what is shown of them."""
