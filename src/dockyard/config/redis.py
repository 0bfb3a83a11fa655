"""Settings of the connection to Redis."""

from datetime import timedelta

from dockyard.config.scalars import Flag, Number, OptionalText, Secret, SignedDuration, Text
from dockyard.config.section import Section


class RedisTLSSettings(Section):
    """TLS towards Redis."""

    certificate: OptionalText = None
    key: OptionalText = None
    rootcas: tuple[Text, ...] = ()


class RedisSettings(Section):
    """How to reach Redis. A number or duration of zero is the client's own default."""

    addrs: tuple[Text, ...] = ()
    clientname: OptionalText = None
    db: Number = 0
    protocol: Number = 0
    username: OptionalText = None
    password: Secret = None
    sentinelusername: OptionalText = None
    sentinelpassword: Secret = None
    maxretries: Number = 0
    minretrybackoff: SignedDuration = timedelta()
    maxretrybackoff: SignedDuration = timedelta()
    dialtimeout: SignedDuration = timedelta()
    readtimeout: SignedDuration = timedelta()
    writetimeout: SignedDuration = timedelta()
    contexttimeoutenabled: Flag = False
    poolfifo: Flag = False
    poolsize: Number = 0
    pooltimeout: SignedDuration = timedelta()
    minidleconns: Number = 0
    maxidleconns: Number = 0
    maxactiveconns: Number = 0
    connmaxidletime: SignedDuration = timedelta()
    connmaxlifetime: SignedDuration = timedelta()
    maxredirects: Number = 0
    readonly: Flag = False
    routebylatency: Flag = False
    routerandomly: Flag = False
    mastername: OptionalText = None
    disableidentity: Flag = False
    identitysuffix: OptionalText = None
    unstableresp3: Flag = False
    tls: RedisTLSSettings = RedisTLSSettings()
