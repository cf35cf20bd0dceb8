"""The rows of the published tables as values, and what trains them.

``base`` says what a method is, ``rows`` lists them all, ``arms`` names one with the generator of its data; ``trained``
holds what a method may train (``lora``: low-rank updates) and ``verbalizer`` how a class is scored; ``tune`` runs the
stages, and ``transfer`` trains the prompts that some methods start from.
"""
