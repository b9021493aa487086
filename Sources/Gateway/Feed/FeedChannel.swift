// One topic as the feed holds it: the machine that follows it, and what the shell needs beside that.

import Fanout
import LiveProtocol

final class FeedChannel {
    let topic: Topic
    let number: UInt32
    /// The server that holds the topic.
    private(set) var home: FeedServer
    /// How often everything under way for the topic became void: its link was lost, it moved, or a node ended
    /// or deferred its subscription.
    private(set) var losses = 0
    /// Since when nodes have deferred the topic's subscription, in milliseconds. `nil` when none has done so
    /// since the last confirmed subscription.
    var deferredSince: Int64?
    var machine: FeedMachine
    /// Bytes of history that the budget knows of.
    var accountedBytes = 0
    /// True while the channel stands in the feed's table of gaps.
    var isInRepairs = false
    /// When a channel without watchers is given up; `nil` while somebody watches.
    var retainedUntil: Int64?

    /// Watchers by loop, as last reported; empty before the first report.
    var viewersByLoop: [Int] = []
    /// True after Redis refused the key in which this auction's viewers are counted.
    var isUncounted = false
    /// The number of viewers last reported to Redis.
    var reportedViewers = 0
    /// The number over all gateways last announced to watchers; `nil` before the first announcement.
    var announcedViewers: Int?
    var nextAnnouncementAt: Int64 = 0

    init(topic: Topic, number: UInt32, home: FeedServer, historyEvents: Int) {
        self.topic = topic
        self.number = number
        self.home = home
        machine = FeedMachine(
            topic: topic, number: number, historyEvents: historyEvents,
            isDelivering: home.news.isDelivering)
    }

    func move(to home: FeedServer) { self.home = home }

    /// Makes every ``FeedRead`` void.
    func loseReads() { losses += 1 }

    var viewers: Int { viewersByLoop.reduce(0, +) }
}
