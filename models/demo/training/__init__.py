"""How the demo model was made and measured. Part of the checkout, not of the wheel.

Run in the root of a checkout, with the package installed: `python -m models.demo.training.MODULE`.
"""
