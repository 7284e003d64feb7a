"""How sure a model is of a prediction, and what Dice that means; without torch."""
