"""The rows of the published tables as values, and what trains them.

``base`` says what a method is, ``rows`` lists them all, ``arms`` names one with the generator of its data; ``trained``
holds what a method may train, ``tune`` runs its phases, ``transfer`` and ``sources`` make the prompts that some start
from.
"""
