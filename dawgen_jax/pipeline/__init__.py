"""The main job as resumable stages: inputs -> generators -> synthetic sets, source prompts -> cells -> results.

Each stage turns the artefacts of the stage before into folders of one kind, named by task, seed, generator or
method and a hash of what it read. ``train/`` calls them; none of them knows another's files but through ``io.store``.
"""
