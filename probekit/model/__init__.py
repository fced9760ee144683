"""Where activations come from: hosts, harvest, twins, planted transformers and the bundled `nano`."""
