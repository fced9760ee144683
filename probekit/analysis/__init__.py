"""One analysis: settings, design, passes over the text, and the decision of each layer."""
