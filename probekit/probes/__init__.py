"""How readouts are fitted: moments, batched selection, refit, and the scikit-learn face."""
