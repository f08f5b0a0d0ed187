//! (quota)
/// x
pub struct Lane;
/// x
pub struct LaneScheduler;
/// x
pub struct TokenBucket;
