"""Where activations come from: hooked models, harvest, twins, planted transformers and the bundled `nano`."""
