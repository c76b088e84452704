"""Text classifiers: a text, or a request with its reply, in; probabilities of labels out."""
