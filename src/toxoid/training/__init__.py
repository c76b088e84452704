"""Trainers on ``transformers.Trainer``: examples, checkpoints, supervised fine-tuning, model cards."""
