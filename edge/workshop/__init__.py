"""Makes and judges models: export, evaluate and bench. The daemon imports nothing from here."""
