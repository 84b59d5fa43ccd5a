"""The corpora that edgeser reads, one module each; the table of corpora is in :mod:`edgeser.corpora.table`."""
