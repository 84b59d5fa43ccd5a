"""The board's leaves of the tree of errors; the tree is drawn in :mod:`edgeser.errors`."""

from __future__ import annotations

from edgeser_export.utilities.errors import EdgeserError


class AudioError(EdgeserError, ValueError):
    """A recording cannot be used: unreadable, empty, or not finite."""


class EncoderError(EdgeserError, ValueError):
    """An encoder is unknown or damaged, cannot be fetched, or is not what its card says."""


class FrontendError(EdgeserError, ValueError):
    """A front-end specification that cannot be computed."""


class KitError(EdgeserError, ValueError):
    """A kit cannot be trusted or understood."""


class KitDamaged(KitError):
    """A kit is truncated, or a member does not have the hash that the manifest states."""


class KitSchemaError(KitError):
    """A kit was made for another version of the format."""


class KitUntrusted(KitError):
    """A kit is not signed with the key that this machine trusts."""


class KeyFileError(EdgeserError, ValueError):
    """A file with a key is missing, malformed, expired, or would be overwritten."""


class DistilledSetError(EdgeserError, ValueError):
    """A distilled set is not well formed."""


class DeviceError(EdgeserError, ValueError):
    """The folder of an installation is missing, damaged, or is not one."""


class ModelError(EdgeserError, ValueError):
    """A model folder is missing, incomplete or of another version."""


class TrainingError(EdgeserError, ArithmeticError):
    """Training on the device went wrong: the loss is not finite, or the golden check failed."""


class ClipsError(EdgeserError, ValueError):
    """The owner's own clips cannot be trained on: unknown emotions, or too few."""


class GateFailed(EdgeserError):
    """The work was done and its result missed a bound that was asked for."""

    exit_code = 1


class ListenError(EdgeserError, ValueError):
    """Listening cannot be done as asked: a gate, a threshold, an address or a broker's name that cannot be used."""


class MicrophoneError(ListenError, OSError):
    """There is no microphone, it cannot be opened, or it does not record what the model needs."""


class BrokerError(ListenError, OSError):
    """The MQTT broker does not let this program in."""


class PortInUse(ListenError, OSError):
    """Another program listens on the address that the page should have."""
