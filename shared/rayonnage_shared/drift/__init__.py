"""Whether the products that are sent, and the answers, still look as they did when the champion was trained."""
