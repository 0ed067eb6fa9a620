//! What the kernel's rtnetlink messages say, reduced to what the datapath needs.

use super::{Link, Neighbour, Route};
use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use std::net::IpAddr;

/// The messages of one datagram; what cannot be read ends it (the kernel's, so nothing hostile).
pub(super) fn messages(mut bytes: &[u8]) -> Vec<NetlinkMessage<RouteNetlinkMessage>> {
    let mut messages = Vec::new();
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        let length = (message.header.length as usize).next_multiple_of(4);
        messages.push(message);
        if length == 0 || length >= bytes.len() {
            break;
        }
        bytes = &bytes[length..];
    }
    messages
}

/// An interface; `None` without a name.
pub(super) fn parse_link(message: &LinkMessage) -> Option<Link> {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mtu: 0,
        mac: None,
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        up: message.header.flags.contains(LinkFlags::Up),
        queues: (1, 1),
        kind: String::new(),
        vlan: None,
    };
    let ethernet = matches!(
        message.header.link_layer_type,
        LinkLayerType::Ether | LinkLayerType::Loopback
    );
    let (mut below, mut vlan_id) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) if ethernet => link.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::NumTxQueues(n) => link.queues.0 = *n,
            LinkAttribute::NumRxQueues(n) => link.queues.1 = *n,
            LinkAttribute::Link(index) => below = Some(*index),
            LinkAttribute::LinkInfo(info) => {
                for part in info {
                    match part {
                        LinkInfo::Kind(kind) => link.kind = kind_name(kind),
                        LinkInfo::Data(InfoData::Vlan(vlan)) => {
                            vlan_id = vlan.iter().find_map(|v| match v {
                                InfoVlan::Id(id) => Some(*id),
                                _ => None,
                            });
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link.vlan = below.zip(vlan_id);
    (!link.name.is_empty()).then_some(link)
}

fn kind_name(kind: &InfoKind) -> String {
    match kind {
        InfoKind::Veth => "veth".into(),
        InfoKind::Vlan => "vlan".into(),
        InfoKind::Bridge => "bridge".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// A route; `None` where it leads to no interface.
pub(super) fn parse_route(message: &RouteMessage) -> Option<Route> {
    let mut ifindex = None;
    let (mut gateway, mut mtu) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            RouteAttribute::Via(RouteVia::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(Route {
        ifindex: ifindex?,
        gateway,
        mtu,
        local: message.header.kind == RouteType::Local,
    })
}

/// A neighbour; `None` for entries of other tables.
pub(super) fn parse_neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    // Bridge forwarding entries come by the same message.
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
            _ => None,
        })?;
    let usable = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Noarp
            | NeighbourState::Permanent
    );
    let mac = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) if usable => mac.as_slice().try_into().ok(),
            _ => None,
        });
    Some(Neighbour {
        ifindex: message.header.ifindex,
        address,
        mac,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::NetlinkPayload;

    /// A netlink message of that type: fixed header, then attributes of type and value.
    fn message(kind: u16, header: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = header.to_vec();
        for (kind, value) in attributes {
            let length = 4 + value.len() as u16;
            body.extend(length.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    fn inner(bytes: &[u8]) -> Vec<RouteNetlinkMessage> {
        let inner = messages(bytes)
            .into_iter()
            .map(|message| match message.payload {
                NetlinkPayload::InnerMessage(inner) => inner,
                other => panic!("{other:?}"),
            });
        inner.collect()
    }

    /// RTM_NEWROUTE of a table entry of that type (1 unicast, 2 local).
    fn route(kind: u8, attributes: &[(u16, &[u8])]) -> Option<Route> {
        let header = [2, 32, 32, 0, 254, 0, 0, kind, 0, 0, 0, 0];
        let bytes = message(24, &header, attributes);
        let [RouteNetlinkMessage::NewRoute(route)] = &inner(&bytes)[..] else {
            panic!("no route");
        };
        parse_route(route)
    }

    #[test]
    fn a_route_by_a_gateway_names_interface_gateway_and_mtu() {
        let metrics = [8u16.to_ne_bytes(), 2u16.to_ne_bytes()].concat();
        let metrics = [&metrics[..], &1400u32.to_ne_bytes()].concat();
        let attributes: [(u16, &[u8]); 4] = [
            (1, &[192, 0, 2, 9]),
            (4, &7u32.to_ne_bytes()),
            (5, &[10, 0, 0, 1]),
            (8, &metrics),
        ];
        let expected = Route {
            ifindex: 7,
            gateway: Some("10.0.0.1".parse().unwrap()),
            mtu: Some(1400),
            local: false,
        };
        assert_eq!(route(1, &attributes), Some(expected));
    }

    #[test]
    fn an_ipv4_route_can_have_an_ipv6_gateway() {
        let mut via = 10u16.to_ne_bytes().to_vec();
        via.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let route = route(1, &[(4, &7u32.to_ne_bytes()), (18, &via)]).unwrap();
        assert_eq!(route.gateway, Some("fe80::1".parse().unwrap()));
    }

    #[test]
    fn an_own_address_is_local_and_a_route_without_interface_is_none() {
        let route_local = route(2, &[(4, &1u32.to_ne_bytes())]).unwrap();
        assert!(route_local.local && route_local.gateway.is_none());
        assert_eq!(route(6, &[]), None);
    }

    /// RTM_NEWNEIGH in that NUD_* state.
    fn neighbour(state: u16, attributes: &[(u16, &[u8])]) -> Option<Neighbour> {
        let mut header = vec![2, 0, 0, 0];
        header.extend(3u32.to_ne_bytes());
        header.extend(state.to_ne_bytes());
        header.extend([0, 1]);
        let bytes = message(28, &header, attributes);
        let [RouteNetlinkMessage::NewNeighbour(neighbour)] = &inner(&bytes)[..] else {
            panic!("no neighbour");
        };
        parse_neighbour(neighbour)
    }

    #[test]
    fn a_neighbours_address_counts_only_while_it_is_valid() {
        let mac = [2, 0, 0, 0, 0, 9];
        let attributes: [(u16, &[u8]); 2] = [(1, &[10, 0, 0, 9]), (2, &mac)];
        for (state, usable) in [
            (1, false),
            (2, true),
            (4, true),
            (8, true),
            (16, true),
            (32, false),
            (128, true),
        ] {
            let neighbour = neighbour(state, &attributes).unwrap();
            assert_eq!(neighbour.mac, usable.then_some(mac), "state {state}");
            assert_eq!(
                (neighbour.ifindex, neighbour.address),
                (3, "10.0.0.9".parse().unwrap())
            );
        }
        // A bridge's forwarding entry has no network address.
        assert_eq!(neighbour(2, &[(2, &mac)]), None);
    }

    #[test]
    fn a_vlan_interface_names_its_number_and_the_device_below() {
        let nested = |attributes: &[(u16, &[u8])]| message(0, &[], attributes)[16..].to_vec();
        let data = nested(&[(1, &100u16.to_ne_bytes())]);
        let info = nested(&[(1, b"vlan\0"), (2, &data)]);
        let mut header = vec![0, 0, 1, 0];
        header.extend(9u32.to_ne_bytes());
        header.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        let attributes: [(u16, &[u8]); 5] = [
            (3, b"eth0.100\0"),
            (4, &1496u32.to_ne_bytes()),
            (1, &[2, 0, 0, 0, 0, 9]),
            (5, &4u32.to_ne_bytes()),
            (18, &info),
        ];
        let bytes = message(16, &header, &attributes);
        let [RouteNetlinkMessage::NewLink(link)] = &inner(&bytes)[..] else {
            panic!("no link");
        };
        let link = parse_link(link).unwrap();
        assert_eq!(
            (link.index, link.name.as_str(), link.mtu),
            (9, "eth0.100", 1496)
        );
        assert_eq!((link.vlan, link.kind.as_str()), (Some((4, 100)), "vlan"));
        assert!(link.up && !link.loopback && link.mac == Some([2, 0, 0, 0, 0, 9]));
    }

    #[test]
    fn several_messages_of_one_datagram_are_read_and_a_cut_one_ends_it() {
        let header = [2, 32, 32, 0, 254, 0, 0, 1, 0, 0, 0, 0];
        let one = message(24, &header, &[(4, &7u32.to_ne_bytes())]);
        let two = [&one[..], &one[..]].concat();
        assert_eq!(messages(&two).len(), 2);
        assert_eq!(messages(&two[..two.len() - 3]).len(), 1);
        assert!(messages(&[]).is_empty());
    }
}
