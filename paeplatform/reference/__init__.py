"""The model that ships with the package: its files, its card, and how it is judged and made."""
