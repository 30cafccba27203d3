//! The weights of a split.

use crate::model::name::Name;

/// A split's whole weight set: each pool once, in the order in which it was declared, with a sum above zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights(Vec<(Name, u32)>);

/// Why a set of weights is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWeights {
    /// Nobody would get the traffic.
    #[error("all weights are 0: give at least one pool a weight above 0")]
    AllZero,
    /// A pool stands in the set twice.
    #[error("pool {0} is named twice")]
    Repeated(Name),
    /// A weight over [`Weights::MAX`].
    #[error("the weight of pool {0} is over {max}", max = Weights::MAX)]
    TooLarge(Name),
    /// More pools than [`Weights::MAX_POOLS`].
    #[error("a split has at most {max} pools", max = Weights::MAX_POOLS)]
    TooMany,
}

impl Weights {
    /// The largest weight of one pool. It keeps sums and products exact in 64 bits and in a double.
    pub const MAX: u32 = 1_000_000;
    /// The most pools of one split: a pick looks at each of them.
    pub const MAX_POOLS: usize = 64;

    /// Checks a set of weights.
    pub fn new(weights: Vec<(Name, u32)>) -> Result<Self, InvalidWeights> {
        if weights.len() > Self::MAX_POOLS {
            return Err(InvalidWeights::TooMany);
        }
        for (index, (pool, weight)) in weights.iter().enumerate() {
            if *weight > Self::MAX {
                return Err(InvalidWeights::TooLarge(pool.clone()));
            }
            if weights[..index].iter().any(|(earlier, _)| earlier == pool) {
                return Err(InvalidWeights::Repeated(pool.clone()));
            }
        }
        if weights.iter().all(|(_, weight)| *weight == 0) {
            return Err(InvalidWeights::AllZero);
        }
        Ok(Self(weights))
    }

    /// The pools with their weights, in declared order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Name, u32)> {
        self.0.iter().map(|(pool, weight)| (pool, *weight))
    }

    /// The weight of a pool, if it is one of this set.
    pub fn of(&self, pool: &str) -> Option<u32> {
        self.0.iter().find(|(name, _)| name.as_str() == pool).map(|(_, weight)| *weight)
    }

    /// The sum of all weights, above zero.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|(_, weight)| u64::from(*weight)).sum()
    }
}

impl serde::Serialize for Weights {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> serde::Deserialize<'de> for Weights {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

impl schemars::JsonSchema for Weights {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Weights".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let weight = schemars::json_schema!({ "type": "integer", "minimum": 0, "maximum": Self::MAX });
        schemars::json_schema!({ "type": "object", "additionalProperties": weight })
    }
}

/// Reads a map of weights in the order in which it is written: that of the declaration.
struct InOrder;

impl<'de> serde::de::Visitor<'de> for InOrder {
    type Value = Weights;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map of pools to their weights")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Weights, A::Error> {
        let mut weights = Vec::new();
        while let Some(entry) = map.next_entry()? {
            weights.push(entry);
            if weights.len() > Weights::MAX_POOLS {
                return Err(serde::de::Error::custom(InvalidWeights::TooMany));
            }
        }
        Weights::new(weights).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(weights: &[(&str, u32)]) -> Result<Weights, InvalidWeights> {
        Weights::new(weights.iter().map(|(pool, weight)| (Name::new(pool).unwrap(), *weight)).collect())
    }

    #[test]
    fn a_set_has_a_sum_above_zero_and_each_pool_once() {
        assert_eq!(set(&[("blue", 0), ("green", 0)]), Err(InvalidWeights::AllZero));
        assert_eq!(set(&[]), Err(InvalidWeights::AllZero));
        let blue = Name::new("blue").unwrap();
        assert_eq!(set(&[("blue", 1), ("blue", 2)]), Err(InvalidWeights::Repeated(blue.clone())));
        assert_eq!(set(&[("blue", 1_000_001)]), Err(InvalidWeights::TooLarge(blue)));
        let good = set(&[("green", 0), ("blue", 7)]).unwrap();
        assert_eq!(
            (good.of("green"), good.of("blue"), good.of("red"), good.sum()),
            (Some(0), Some(7), None, 7)
        );
        let written = r#"{"green":0,"blue":7}"#;
        assert_eq!(serde_json::to_string(&good).unwrap(), written);
        assert_eq!(serde_json::from_str::<Weights>(written).unwrap(), good);
        assert!(serde_json::from_str::<Weights>(r#"{"green":0}"#).is_err());
    }
}
