// Who opens a connection and says nothing, or stops in the middle of a request, does not keep it.

import NIOCore

final class SilentClientHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = Any

    /// What a new connection gets.
    static func handlers() -> [any RemovableChannelHandler] {
        [IdleStateHandler(readTimeout: Limits.silentClient), SilentClientHandler()]
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent {
            context.close(promise: nil)
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }
}
