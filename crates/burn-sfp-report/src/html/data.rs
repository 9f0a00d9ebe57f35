//! The data of the page's script.

use serde::Serialize;

use crate::content::{Content, Recognised};

#[derive(Serialize)]
struct Data<'a> {
    recognised: Option<&'a Recognised>,
    maps: Vec<MapOf<'a>>,
}

#[derive(Serialize)]
struct MapOf<'a> {
    path: &'a str,
    #[serde(flatten)]
    map: &'a crate::content::Map,
}

/// The data as JSON that can stand in a script element.
pub(super) fn json(content: &Content) -> String {
    let maps = content.links.iter().filter_map(|link| {
        Some(MapOf { path: content.layers.get(link.layer)?.path.as_str(), map: link.map.as_ref()? })
    });
    let data = Data { recognised: content.recognised.as_ref(), maps: maps.collect() };
    // Plain structs with text keys: there is nothing in them that JSON cannot hold.
    embeddable(&serde_json::to_string(&data).unwrap_or_default())
}

/// In JSON these characters stand in strings only. Without them no element ends or begins.
fn embeddable(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_element_ends() {
        let json = serde_json::to_string("</script><!-- & -->").unwrap();
        let embedded = super::embeddable(&json);
        assert!(!embedded.contains(['<', '>', '&']));
        assert_eq!(serde_json::from_str::<String>(&embedded).unwrap(), "</script><!-- & -->");
    }
}
