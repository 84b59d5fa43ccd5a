"""Attacks that measure what a distilled set gives away, and what sets beside it do whose answer is known.

Threat models, by what the attacker has; in each he also has a recording and asks whether it was used, or who speaks:

- ``set``: the items, with the class of each.
- ``set_and_labels``: the kit: items, views with their soft labels, the schedule, the initialisation.
- ``model``: a model that a board trained from the kit, and its probabilities.

Sets that are attacked:

- ``distilled``: the run's own.
- ``random_bank``: as many random real clips, labelled by the experts. Member: a clip that the experts learnt.
- ``real_subset``: the same items. Member: a clip that is stored. The planted leak: an attack must find it.
- ``noise``: smooth noise with hard labels; nothing in it comes from a recording, and every attack is at chance on it.
- ``from_real``, ``from_mix``, ``from_noise``: the run's method with items that begin as that, where asked for.

``RUN/audit.json``. A *figure* is ``{"value", "low", "high"}``: the value and its interval of 95 %; null where counts
are too small. A *spread* is ``{"least", "lower", "median"}``: least value, 5 % quantile, median::

    {
      "schema": 1,
      "edgeser": version, "machine": {...}, "seconds": of this call, "command": what repeats it,
      "run": {"corpus", "method", "start_from", "labels", "ipc", "items", "share", "train_items", "speakers", "privacy",
              "seed"},
                                                      "start_from" is null where the method has none
      "threat_models": {name: in words},
      "sets": {name: {"words", "items"}},
      "copies": {                                     threat model "set"
        "words": how it is measured,
        "spaces": {                                   "log_mel", "patterns", "features"
          space: {
            "unit": "dB", "1 - correlation" or "standard deviations",
            "real": {"same_speaker": spread, "other_speaker": spread},     of a real clip to its nearest real clip
            "sets": {set: {
              "nearest": spread,                      of an item to its nearest real clip
              "source": null or {"count", "of", "value", "low", "high", "chance"},     items whose nearest real clip
                                                      is one that they are or began as; null where none is known;
                                                      chance: where items of a class exchange their sources
              "below_least": {"count", "of", "value", "low", "high"},      items nearer than any clip is to another's
              "below_lower": {... the same ...},      items nearer than 5 % of the clips are
              "relative": {"items": spread, "other_speaker": spread, "below_least": {...}, "below_lower": {...}}
            }}                                        nearest distance over the mean of the 20 nearest: blur cancels
          }
        }
      },
      "nearest": [{"item", "class", "clip", "speaker", "log_mel": dB, "patterns", "features"}],     of the distilled set
      "membership": null or {
        "words": ..., "shadows": N, "speakers": S,
        "sets": {set: {threat model: {
          "utterance" and "speaker": null or {
            "decisions", "members",
            "likelihood_ratio" and "threshold": {"auc", "tpr_at_5", "tpr_at_1", "tpr_at_0.1"}      figures or null
          }
        }}}
      },
      "speakers": null where too few clips are left to learn from, or {
        "words": ..., "speakers": S, "chance": {"top_1": 1 / S, "equal_error": 0.5},
        "real": {"top_1", "equal_error"},             the classifier on real clips that it never saw
        "sets": {set: {"link": what connects item and speaker, "sources": clips in an item, "chance": top-1 by guessing,
                       "applied": {"top_1", "equal_error"},      learnt from real clips, asked about items
                       "retrained": {"top_1", "equal_error"}}}   learnt from items, asked about real clips
      },
      "sex": null where the corpus does not tell, and where "speakers" is, or {
        "words": ..., "real": {"accuracy", "auc"}, "sets": {set: {"applied": {"accuracy", "auc"}, "items"}}
      },
      "left_out": [what was not asked, and why],       a sentence each
      "inversion": {"words": ..., "picture": "audit/items.png",
                    "sounds": [{"item", "class", "sound": "audit/sounds/00-anger.wav", "nearest": "...wav"}]},
      "dp": null or {"epsilon", "delta", "noise_multiplier", "unit", "covered": [...], "not_covered": [...]},
      "controls": [{"attack", "threat_model", "finds_the_leak", "finds_noise"}],            intervals against chance
      "summary": [{"set", "attack", "threat_model", "figure", "chance", "worse", "words"}]  the lines of the table
    }

Paths are relative to the run. ``summary`` is what a reader needs first: it can be shown as it is; "worse" is the side
of chance that tells of a leak, "more", "less" or "". An attack that does not find the planted leak says nothing of the
other sets.
"""
