"""Settings of the storage drivers for object stores, and of two that distribution dropped."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, model_validator

from dockyard.config.scalars import (
    OptionalText,
    ParameterCount,
    ParameterFlag,
    Secret,
    SecretText,
    SignedDuration,
    Text,
    to_text,
)
from dockyard.config.section import Section


_MIB: Final = 1 << 20
_GCS_CHUNK_UNIT: Final = 256 << 10
"""Bytes of which a chunk of a Google Cloud Storage upload must be a multiple."""

StorageClass: TypeAlias = Annotated[
    Literal[
        "NONE",
        "STANDARD",
        "REDUCED_REDUNDANCY",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "OUTPOSTS",
        "GLACIER_IR",
        "EXPRESS_ONEZONE",
    ],
    BeforeValidator(to_text),
]
S3LogLevel: TypeAlias = Annotated[
    Literal[
        "off",
        "debug",
        "debugwithsigning",
        "debugwithhttpbody",
        "debugwithrequestretries",
        "debugwithrequesterrors",
        "debugwitheventstreambody",
    ],
    BeforeValidator(to_text),
]
AzureCredentialsType: TypeAlias = Annotated[
    Literal["client_secret", "shared_key", "default_credentials"], BeforeValidator(to_text)
]


def _part_size(value: int) -> int:
    if value < 5 * _MIB:
        raise ValueError("must be at least 5242880 bytes (5 MiB)")
    return value


def _gcs_chunk(value: int) -> int:
    if value <= 0 or value % _GCS_CHUNK_UNIT:
        raise ValueError("must be a multiple of 262144 bytes (256 KiB)")
    return value


PartSize: TypeAlias = Annotated[ParameterCount, AfterValidator(_part_size)]


class S3Settings(Section):
    """A bucket of Amazon S3 or of a service that speaks its protocol. Sizes are bytes."""

    accesskey: Secret = None
    secretkey: Secret = None
    region: OptionalText = None
    regionendpoint: OptionalText = None
    forcepathstyle: ParameterFlag = False
    bucket: Text
    encrypt: ParameterFlag = False
    keyid: OptionalText = None
    secure: ParameterFlag = True
    skipverify: ParameterFlag = False
    v4auth: ParameterFlag = True
    chunksize: PartSize = 10 * _MIB
    multipartcopychunksize: PartSize = 32 * _MIB
    multipartcopymaxconcurrency: ParameterCount = 100
    multipartcopythresholdsize: ParameterCount = 32 * _MIB
    rootdirectory: Text = ""
    storageclass: StorageClass = "STANDARD"
    useragent: Text = ""
    usedualstack: ParameterFlag = False
    accelerate: ParameterFlag = False
    usefipsendpoint: ParameterFlag = False
    objectacl: Text = "private"
    loglevel: S3LogLevel = "off"
    redirectendpoint: OptionalText = None

    @model_validator(mode="after")
    def _located(self) -> Self:
        if self.region is None and self.regionendpoint is None:
            raise ValueError("must have a region, or a regionendpoint")
        return self


class AzureCredentialsSettings(Section):
    """How to prove an identity to Azure."""

    type: AzureCredentialsType = "shared_key"
    clientid: OptionalText = None
    tenantid: OptionalText = None
    secret: Secret = None


class AzureSettings(Section):
    """A container of Azure Blob Storage."""

    accountname: Text
    accountkey: Secret = None
    container: Text
    credentials: AzureCredentialsSettings = AzureCredentialsSettings()
    rootdirectory: Text = ""
    realm: Text = "core.windows.net"
    max_retries: ParameterCount = 5
    retry_delay: SignedDuration = timedelta(milliseconds=100)


class GCSSettings(Section):
    """A bucket of Google Cloud Storage.

    Attributes:
        chunksize: bytes, a multiple of 256 KiB.
    """

    bucket: Text
    keyfile: OptionalText = None
    credentials: Mapping[str, SecretText] = {}
    rootdirectory: Text = ""
    chunksize: Annotated[ParameterCount, AfterValidator(_gcs_chunk)] = 5 * _MIB


class OSSSettings(Section):
    """A bucket of Alibaba Cloud OSS, as distribution 2.x had it. Sizes are bytes."""

    accesskeyid: Secret = None
    accesskeysecret: Secret = None
    region: OptionalText = None
    endpoint: OptionalText = None
    internal: ParameterFlag = False
    bucket: Text
    encrypt: ParameterFlag = False
    encryptionkeyid: OptionalText = None
    secure: ParameterFlag = True
    chunksize: PartSize = 10 * _MIB
    rootdirectory: Text = ""


class SwiftSettings(Section):
    """A container of OpenStack Swift, as distribution 2.x had it. Sizes are bytes."""

    authurl: Text
    username: OptionalText = None
    password: Secret = None
    region: OptionalText = None
    container: Text
    tenant: OptionalText = None
    tenantid: OptionalText = None
    domain: OptionalText = None
    domainid: OptionalText = None
    tenantdomain: OptionalText = None
    tenantdomainid: OptionalText = None
    trustid: OptionalText = None
    insecureskipverify: ParameterFlag = False
    chunksize: ParameterCount = 20 * _MIB
    prefix: Text = ""
    secretkey: Secret = None
    accesskey: Secret = None
    authversion: ParameterCount = 0
    endpointtype: Text = "public"
    tempurlcontainerkey: ParameterFlag = False
    tempurlmethods: tuple[Text, ...] = ()
