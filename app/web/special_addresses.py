"""The networks that are no part of the public Internet, whatever the library of this Python knows.

``ipaddress`` of an older Python lacks what IANA has registered since. The lists follow IANA's
registries of special-purpose addresses
(https://www.iana.org/assignments/iana-ipv4-special-registry, …/iana-ipv6-special-registry), and add
what clouds serve to their own machines.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

# Of these the last 32 bits are an IPv4 address that the packets may reach: mapped (RFC 4291),
# translated (RFC 2765), and by a translator with the well-known prefix (RFC 6052).
_EMBEDDING = (
    IPv6Network("::ffff:0:0/96"),
    IPv6Network("::ffff:0:0:0/96"),
    IPv6Network("64:ff9b::/96"),
)

_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this host, this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by carriers; 100.100.100.200 serves Alibaba's metadata
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure's own services on each machine
            "169.254.0.0/16",  # link-local; 169.254.169.254 serves the metadata of most clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # IETF protocols; 192.0.0.192 serves Oracle's metadata
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4, given up
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
# What IANA gives to the public Internet, and the parts of it that are none.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # IETF protocols, among them Teredo, benchmarks and ORCHID
            "2001:db8::/32",  # documentation
            "3fff::/20",  # documentation
        ),
    )
)


def embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to an IPv6 address may reach; None if it stands for none."""
    if any(address in network for network in _EMBEDDING):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    # 6to4 has it behind its prefix, 2002::/16 (RFC 3056).
    return address.sixtofour


def is_special(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address that embeds no other one is outside the public Internet."""
    if isinstance(address, IPv4Address):
        return any(address in network for network in _IPV4)
    # Link-local, unique local, site-local, multicast, discard-only, 64:ff9b:1::/48 and 5f00::/16
    # are outside of it.
    return address not in _GLOBAL_UNICAST or any(address in network for network in _IPV6)
