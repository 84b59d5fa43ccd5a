"""Everything that can be set on the host, each setting at one place.

    settings, notes = read_settings(Path("mine.toml"), {"ipc": "6", "mtt.expert_span": "2"})
    settings.mtt.expert_span                    # 2

:mod:`edgeser.config.settings` declares the settings: adding one is one edit there. The command line, files, messages
and docs/reference/settings.md are made of these declarations. Nothing here loads more than the standard library, so
that a board shows the same help.
"""
