"""The words both sides speak: documents, keys, envelopes, the log, the model, imaging, phantoms, evaluation."""
