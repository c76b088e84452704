"""The closed loop: audit, treat, re-audit; resumable, on frozen items."""
